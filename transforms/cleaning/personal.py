"""Personal data in a text: e-mail addresses, phone, bank and identity numbers, by their form and their check digits.

Numbers with a check digit are taken only where it is right. What has none (SSN, e-mail) is found by its form alone; a
name or a street is not found at all. Every pattern is anchored and bounded, so that time grows with the text only.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from rtdscan.transforms.cleaning.settings import PersonalKind
from rtdscan.transforms.errors import UserError

_LETTERS = r"A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0300-\u036f\u0370-\u052f\u1e00-\u1fff"
"""Latin, Greek and Cyrillic with their marks: scripts with spaces, so that an address ends where its letters do."""

_LOCAL = rf"[{_LETTERS}0-9!#$%&'*+/=?^_`{{|}}~.-]"
_LABEL = rf"[{_LETTERS}0-9](?:[{_LETTERS}0-9-]{{0,61}}[{_LETTERS}0-9])?"

_EMAIL = re.compile(
    rf"(?<![{_LETTERS}0-9])[{_LETTERS}0-9]{_LOCAL}{{0,63}}@(?:{_LABEL}\.){{1,8}}"
    rf"(?:xn--[A-Za-z0-9-]{{1,59}}|[{_LETTERS}]{{2,63}})(?![{_LETTERS}0-9])"
)
"""WHATWG HTML, "valid e-mail address", with a top-level domain of letters and with letters as in RFC 6531; lengths of
RFC 5321, section 4.5.3.1. It begins with a letter or a digit: marks before that quote, list or emphasise it."""

_LOGIN = re.compile(r"(?<!mailto)://[\w.~%!$&*+=:-]*@[^@]*\Z")
"""A user, maybe with a password, before the host of a URL; no comma or quote, as between two entries."""

_LONGEST_LOGIN = 200

_FILE = re.compile(r"\.(?:png|jpe?g|gif|webp|svg|css|js)\Z", re.IGNORECASE)
"""`image@2x.png`: endings of files that are no top-level domains."""

_APART = r"[ \u00a0\u2007\u202f.\u2010-\u2013-]"
"""Between groups of digits: a space, a dot, a dash."""

_MARK = r"[.\u2010-\u2013-]"
"""With a digit beyond it, a number goes on."""

_SSN = re.compile(
    rf"(?<![0-9A-Za-z-])(?<![0-9]{_MARK})(?!000|666|9)[0-9]{{3}}({_APART})(?!00)[0-9]{{2}}\1(?!0000)[0-9]{{4}}"
    rf"(?![0-9A-Za-z-])(?!{_MARK}[0-9])"
)
"""US Social Security numbers in groups; areas 000, 666 and 9xx, group 00 and serial 0000 are never given out
(Social Security Administration, "SSN randomization", 2011)."""

_CARD = re.compile(
    rf"(?<![0-9A-Za-z])(?<![0-9]{_MARK})(?<![0-9],)(?:[0-9]{{13,19}}"
    rf"|[0-9]{{4}}({_APART})[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{1,7}}|3[0-9]{{3}}({_APART})[0-9]{{6}}\2[0-9]{{4,5}})"
    rf"(?![0-9A-Za-z-])(?!{_MARK}[0-9])"
)
"""13 to 19 digits (ISO/IEC 7812-1), at once or as they are printed: 4-4-4-4, and 4-6-5 and 4-6-4."""

_ISSUERS = re.compile(
    r"4(?:.{12}|.{15}|.{18})$"  # Visa
    r"|(?:5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720).*(?<=^.{16})$"  # Mastercard
    r"|3[47].{13}$"  # American Express
    r"|(?:6011|65|64[4-9]).*(?<=^.{16})$"  # Discover
    r"|35(?:2[89]|[3-8]).*(?<=^.{16})$"  # JCB
    r"|3(?:0[0-5]|6|8|9).*(?<=^.{14})$"  # Diners Club
    r"|62.{14,17}$"  # UnionPay
)
"""First digits and lengths that are in use, as the networks publish them: one number in ten passes Luhn by chance."""

_IBAN = re.compile(rf"(?<![0-9A-Za-z])[A-Za-z]{{2}}[0-9]{{2}}(?={_APART}?[0-9A-Za-z])")

_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK SM TN VG", 25: "LY PT ST", 26: "IS TR",
        27: "BI DJ FR GR IT MC MR", 28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA",
        30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
"""Length by country: SWIFT's IBAN registry (ISO 13616), release 97."""

_CN_ID = re.compile(r"(?<![0-9A-Za-z])[1-9][0-9]{16}[0-9Xx](?![0-9A-Za-z])")
_CN_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CN_REGION = re.compile("1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]")

_DIGITS = re.compile(r"[0-9０-９](?:[^0-9０-９\n]{0,4}[0-9０-９]){5,}")
"""Where a phone number may be; the library, which is slow, looks at these places only."""
_AROUND = 25
"""Characters before and after such a place that the library sees too."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of a text by character offsets, end exclusive, and what it is."""

    start: int
    end: int
    kind: PersonalKind


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of those before it (ISO/IEC 7812-1, annex B)."""
    total = 0
    for at, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + at % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether these digits are a payment card's: first digits and length in use, check digit right."""
    return _ISSUERS.match(digits) is not None and luhn(digits)


def is_iban(text: str) -> bool:
    """Whether this is an IBAN without spaces: its country's length, and mod 97 is 1 (ISO 13616, ISO/IEC 7064)."""
    if len(text) != _IBAN_LENGTHS.get(text[:2]):
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def is_cn_id(text: str) -> bool:
    """Whether this is a Chinese resident identity number: province, date of birth, check digit (GB 11643-1999)."""
    if not _CN_REGION.match(text):
        return False
    try:
        born = date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    if not 1850 <= born.year <= 2150:
        return False
    rest = sum(int(digit) * weight for digit, weight in zip(text, _CN_WEIGHTS, strict=False)) % 11
    return "10X98765432"[rest] == text[17].upper()


def find_personal(text: str, kinds: Sequence[PersonalKind], *, phone_region: str | None = None) -> list[Found]:
    """Find personal data.

    Args:
        text: Any text.
        kinds: What to look for.
        phone_region: Country of phone numbers that are written without +; None: these are not found.

    Returns:
        What was found, in order, without overlaps: a number that may be two things is the first of iban, card, cn_id,
        ssn, phone.

    Raises:
        UserError: Phone numbers are asked for and the library is not installed.
    """
    finders: dict[PersonalKind, Callable[[str], Iterator[tuple[int, int]]]] = {
        "email": _emails,
        "iban": _ibans,
        "card": lambda text: _checked(_CARD, text, lambda found: is_card(re.sub(_APART, "", found))),
        "cn_id": lambda text: _checked(_CN_ID, text, is_cn_id),
        "ssn": lambda text: (match.span() for match in _SSN.finditer(text)),
        "phone": lambda text: _phones(text, phone_region),
    }
    taken: list[Found] = []
    for kind, finder in finders.items():
        if kind in kinds:
            found = (Found(start, end, kind) for start, end in finder(text))
            taken = without_overlaps(taken, list(found))
    return taken


def without_overlaps(first: Sequence[Found], more: Sequence[Found]) -> list[Found]:
    """Both, sorted, without those of `more` that overlap one of `first`; neither has overlaps within itself."""
    starts = [one.start for one in first]
    kept = []
    for one in more:
        at = bisect_left(starts, one.end)  # the last of `first` that begins before this one ends
        if not at or first[at - 1].end <= one.start:
            kept.append(one)
    return sorted([*first, *kept], key=lambda one: one.start)


def check_personal(kinds: Sequence[PersonalKind], *, phone_region: str | None) -> None:
    """Make sure that these can be found here.

    Raises:
        UserError: The library for phone numbers is missing, or does not know the region.
    """
    if "phone" in kinds:
        known = _phonenumbers().SUPPORTED_REGIONS
        if phone_region is not None and phone_region not in known:
            raise UserError(f"personal.phone_region is {phone_region}, of which no phone numbers are known")


def _emails(text: str) -> Iterator[tuple[int, int]]:
    """Addresses; not the login of a URL, nor git's `git@host:path`, nor a file's name."""
    for match in _EMAIL.finditer(text):
        start, end = match.span()
        login = _LOGIN.search(text[max(start - _LONGEST_LOGIN, 0) : end])
        remote = match[0].startswith("git@") and re.match(r":[\w~/]", text[end : end + 2])
        if not (login or remote or _FILE.search(match[0])):
            yield start, end


def _checked(pattern: "re.Pattern[str]", text: str, right: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    """Numbers that are right. Where one is not, the next may begin with its second group: "in 2024 4111 1111 …"."""
    at = 0
    while match := pattern.search(text, at):
        if right(match[0]):
            yield match.span()
            at = match.end()
        else:
            at = match.start() + len(re.split(_APART, match[0], maxsplit=1)[0])


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """IBANs in capitals or small letters, at once or in groups: as many characters as the country has.

    Half of them are digits at least, as in every country: words that follow "se16" may have its check digits by chance.
    """
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2].upper(), 0)
        at, found = match.start(), ""
        while at < len(text) and len(found) < length:
            if not re.match(_APART, text[at]):
                found += text[at]
            elif re.match(_APART, text[at - 1]):
                break
            at += 1
        whole = found.isascii() and found.isalnum() and not re.match("[0-9A-Za-z]", text[at : at + 1])
        whole = whole and found in (found.upper(), found.lower()) and 2 * sum(map(str.isdigit, found)) >= length
        if whole and is_iban(found.upper()):
            yield match.start(), at


def _phones(text: str, region: str | None) -> Iterator[tuple[int, int]]:
    """Valid phone numbers, by Google's libphonenumber."""
    library = _phonenumbers()
    last = 0
    for start, end in _places(text):
        for match in library.PhoneNumberMatcher(text[start:end], region, leniency=library.Leniency.VALID):
            lone = match.raw_string.startswith("(") and ")" not in match.raw_string  # the library takes it along
            first = start + match.start + lone
            if first >= last:
                last = start + match.end
                yield first, last


def _places(text: str) -> Iterator[tuple[int, int]]:
    """Stretches with six digits or more near each other, with what stands around them."""
    start = end = -1
    for match in _DIGITS.finditer(text):
        if start >= 0 and match.start() - _AROUND <= end:
            end = match.end() + _AROUND
            continue
        if start >= 0:
            yield start, end
        start, end = max(match.start() - _AROUND, 0), match.end() + _AROUND
    if start >= 0:
        yield start, end


def _phonenumbers() -> Any:
    try:
        import phonenumbers
    except ImportError as error:
        raise UserError(
            'personal.kinds has phone, which needs a library that is not installed: pip install "rtdscan[phones]",'
            ' from a clone pip install ".[phones]"'
        ) from error
    return phonenumbers
