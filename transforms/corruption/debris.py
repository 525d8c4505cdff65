"""What a crawler brings along: tags and templates around words, and the furniture of web pages."""

from collections.abc import Callable

import numpy as np

from rtdscan.transforms.corruption.edits import Corrupted, Edit, amount, apply, pick, words_of
from rtdscan.transforms.corruption.foreign import insert_sentences

TAGS = (
    "b", "i", "em", "strong", "span", "div", "p", "a", "li", "td", "u", "h2", "font", "sup", "code",
)  # fmt: skip
ATTRIBUTES = (
    "", "", "", ' class="{n}"', ' id="{n}"', ' href="/{n}"', ' style="color:#{x}"', ' style="font-size: {d}px"',
    ' align="center"', ' target="_blank" rel="nofollow"', ' data-{n}="{d}"',
)  # fmt: skip
LONE = (
    "<br>", "<br />", "<hr/>", "</p>", "</div>", "</td></tr>", "<p>", "<li>", "<!-- {n} -->", "<!--more-->",
    '<img src="{n}.jpg" alt="">', "[edit]", "[citation needed]", "[{d}]", "{{{{{n}|{d}}}}}", "<ref name={n} />",
    "{{{{reflist}}}}", "\\n", "\\t", "\\u00{x}", "{{{{ {n}.{n2} }}}}", "%20", "[/quote]", "[img]{n}.gif[/img]",
    "---8<---", "*** {d} ***", "|- |", "||", "<?php echo ${n}; ?>", "#{n}-{d} {{ margin: {d}px; }}",
    "$(document).ready(function(){{", "&gt;&gt;", "<![CDATA[", "]]>", 'style="width:{d}%"', "=3D", "=20",
)  # fmt: skip
NAMES = (
    "main", "header", "content", "post", "item", "nav", "menu", "col", "row", "btn", "title", "text", "article",
    "sidebar", "footer", "widget", "link", "img", "ad", "banner", "list",
)  # fmt: skip

PAGES = (
    "Home", "About", "About Us", "Contact", "Contact Us", "Blog", "News", "Shop", "Products", "Services", "FAQ",
    "Help", "Login", "Sign in", "Register", "My Account", "Cart (0)", "Search", "Menu", "Careers", "Press", "Privacy",
    "Terms", "Sitemap", "RSS", "Gallery", "Events", "Archive", "Support", "Downloads", "Forum", "Pricing", "Subscribe",
    "Donate", "Team",
)  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
SITES = (
    "Example News", "The Daily Site", "Our Partners", "Northwind", "Acme Media", "Open Gazette", "City Portal",
    "The Web Team", "MyBlog", "Contoso",
)  # fmt: skip
LINES = (
    "We use cookies to {improve} your experience. {accept}",
    "This {site} uses cookies. By continuing to browse you agree to our {policy}. {accept}",
    "Cookies help us deliver our services. {accept} Manage preferences",
    "{share} this on Facebook Twitter LinkedIn WhatsApp Email Print",
    "Share this: Tweet Pin it {n} shares",
    "Skip to main content Skip to navigation {menu}",
    "{menu}",
    "Home > {page} > {page} > {page}",
    "© {year} {brand}. All rights reserved. {policy} | Terms of Use",
    "Copyright {year} {brand} | Powered by WordPress | Theme by {brand}",
    "Subscribe to our newsletter! Enter your email address {button}",
    "Sign up for {brand} and get {n}% off your first order. {button}",
    "Posted by admin on {month} {day}, {year} at {n}:{day} pm | {n} comments",
    "Posted in {page}, {page} | Tagged {page} | Leave a comment",
    "Read more » Continue reading → {n} Comments",
    "Click here to {click}. {button}",
    "You must be logged in to post a comment. Log in Register",
    "Please enable JavaScript to view this {site}.",
    "Your browser is not supported. Please upgrade to the latest version.",
    "Advertisement - Continue reading below",
    "ADVERTISEMENT Story continues below {button}",
    "Related articles: {page} · {page} · {page}",
    "You may also like: {page} {page} {page} See all",
    "« Previous 1 2 3 ... {n} Next »",
    "Page {day} of {n} | Back to top",
    "Rated {n} out of 5 based on {year} reviews. Add to cart Add to wishlist",
    "Loading... Please wait. Last updated {day} {month} {year}",
    "Error {n}: could not connect to database. Warning: include(): failed opening in line {n}",
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    "Toggle navigation Close Open menu {button}",
)
SEPARATORS = (" ", " | ", " > ", "\n", " · ")
SLOTS: dict[str, tuple[str, ...]] = {
    "improve": ("improve", "enhance", "personalise", "optimise"),
    "accept": ("Accept all", "OK, got it", "Accept Reject Learn more", "I agree", "Cookie settings", "Accept & close"),
    "policy": ("Privacy Policy", "Cookie Policy", "use of cookies", "terms and conditions"),
    "site": ("site", "website", "page"),
    "share": ("Share", "SHARE", "Like and share", "Follow us and share"),
    "button": ("Submit", "Subscribe now", "Learn more", "Sign up", "Buy now", "Download", "OK"),
    "click": ("unsubscribe", "view the full article", "report this post", "see the gallery", "reply", "download it"),
    "page": PAGES, "month": MONTHS, "brand": SITES,
}  # fmt: skip


def markup(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Tags around a word or beside it, templates, escapes, style sheets; the tag and the word it touches are marked."""
    words = words_of(text)
    wanted = amount(rng, rate * len(words))
    edits: list[Edit] = []
    for index in rng.permutation(len(words))[:wanted].tolist() if wanted else ():
        start, end = words[index]
        if rng.random() < 0.5:
            tag = pick(rng, TAGS)
            opened = f"<{tag}{_filled(pick(rng, ATTRIBUTES), rng)}>"
            edits.append(Edit(start, end, f"{opened}{text[start:end]}</{tag}>", "markup"))
        else:
            edits.append(Edit(start, start, _filled(pick(rng, LONE), rng) + " ", "markup"))
    return apply(text, edits)


def boilerplate(text: str, rng: np.random.Generator, rate: float) -> Corrupted:
    """Cookie banners, navigation, share buttons, copyright lines between sentences; `rate` is by sentences."""
    return insert_sentences(text, rng, rate, kind="boilerplate", make=boilerplate_line)


def boilerplate_line(rng: np.random.Generator) -> str:
    """A line of page furniture."""
    line = pick(rng, LINES)
    fill: dict[str, Callable[[], str]] = {
        "menu": lambda: pick(rng, SEPARATORS).join(pick(rng, PAGES) for _ in range(3 + int(rng.random() * 6))),
        "year": lambda: str(1998 + int(rng.random() * 28)),
        "day": lambda: str(1 + int(rng.random() * 28)),
        "n": lambda: str(1 + int(rng.random() * 99)),
    }  # fmt: skip
    parts = line.split("{")
    filled = [parts[0]]
    for piece in parts[1:]:  # one slot at a time: the same slot twice in a line is filled twice
        slot, _, rest = piece.partition("}")
        filled += (fill[slot]() if slot in fill else pick(rng, SLOTS[slot]), rest)
    return "".join(filled)


def _filled(pattern: str, rng: np.random.Generator) -> str:
    if "{" not in pattern:
        return pattern
    number = int(rng.random() * 400)
    return pattern.format(n=pick(rng, NAMES), n2=pick(rng, NAMES), d=number, x=f"{number:02x}")
