"""Personal data by form and check digit: known valid numbers are found, near misses are not, hostile texts cost little.

Numbers are the published examples: ISO 13616's and banks' sample IBANs, the card networks' test numbers, the
resident identity number of GB 11643-1999, the SSA's advertised number, RFC 6761's example domains.
"""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.transforms.cleaning.personal import check_personal, find_personal, is_cn_id, is_iban, luhn
from rtdscan.transforms.errors import UserError

ALL = ("email", "phone", "ssn", "iban", "card", "cn_id")

VALID = {
    "email": [
        "bob@example.org", "bob.smith+tag@mail.example.co.uk", "x_y-z@xn--bcher-kva.example", "a@b.xn--p1ai",
    ],
    "ssn": ["078-05-1120", "536 90 4399"],
    "iban": [
        "DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32", "NO93 8601 1117 947",
        "FR14 2004 1010 0505 0001 3M02 606", "MT84MALT011000012345MTLCAST001S", "BE68539007547034",
    ],
    "card": [
        "4111 1111 1111 1111", "4111-1111-1111-1111", "5555555555554444", "2223003122003222", "378282246310005",
        "3782 822463 10005", "6011111111111117", "3530111333300000", "30569309025904", "4222222222222",
    ],
    "cn_id": ["11010519491231002X", "11010519491231002x", "440524188001010014"],
    "phone": ["+1 650-253-0000", "+49 30 901820", "+86 138 0013 8000", "(650) 253-0000"],
}  # fmt: skip

INVALID = [
    "bob@example", "@example.org", "bob@", "bob@-example.org", "bob@example.c", "bob@@example.org", "a" * 65 + "@b.org",
    "000-05-1120", "666-05-1120", "978-05-1120", "078-00-1120", "078-05-0000", "078-051120", "1078-05-1120",
    "DE88370400440532013000", "DE8937040044053201300", "DE893704004405320130001", "XX89370400440532013000",
    "4111 1111 1111 1112", "4111 1111-1111 1111", "9999999999999995", "41111111111111111", "0.4111111111111111",
    "110105194912310021", "11010519491331002X", "99010519491231002X", "110105194912310",
    "3.14159265358979", "10.0.19041.1", "978-3-16-148410-0", "2018-02-05",
]  # fmt: skip


def found(text: str, *kinds: str) -> list[tuple[str, str]]:
    chosen = kinds or ALL
    return [(one.kind, text[one.start : one.end]) for one in find_personal(text, chosen, phone_region="US")]


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind in VALID for value in VALID[kind]])
def test_valid_ones_are_found_wherever_they_stand(kind: str, value: str) -> None:
    for text in (value, f"It is {value}.", f"({value}), or", f"号码{value}是", f"\n{value}\n"):
        assert found(text) == [(kind, value)], text


@pytest.mark.parametrize("value", INVALID)
def test_what_is_not_valid_stays(value: str) -> None:
    assert found(f"It is {value} here", "email", "ssn", "iban", "card", "cn_id") == []


MARKS = [
    "'§'",
    '"§"', "*§*", "**§**", "_§_", "`§`", "|§|", "{§}", "=§&", "/§/", "#§", "~§", "-§", "...§", "...§...", "§--he",
    "§-", "§/x", "§;§", "|§|§|",
]  # fmt: skip


@pytest.mark.parametrize("marks", MARKS)
def test_addresses_beside_marks_were_missed(marks: str) -> None:
    for address in ("bob@example.com", "o'brien.x+tag@mail.example.co.uk"):
        assert found(marks.replace("§", address), "email") == [("email", address)] * marks.count("§")


@pytest.mark.parametrize(
    "address",
    ["jürgen@example.de", "ju\u0308rgen@example.de", "bob@münchen.de", "ivan@пример.рф", "žofie.k@example.cz"],
)
def test_addresses_with_other_letters_were_masked_in_part(address: str) -> None:
    assert found(f"It is {address}, or", "email") == [("email", address)]


@pytest.mark.parametrize(
    "text", ["Paid in 2024 4111 1111 1111 1111 by Visa", "Smith,4111 1111 1111 1111,12/27", "No-4111 1111 1111 1111.",
             "no.4111 1111 1111 1111", "1 12 123 1234 1234 4111 1111 1111 1111 12"],
)  # fmt: skip
def test_cards_after_a_number_or_a_mark_were_missed(text: str) -> None:
    assert found(text, "card") == [("card", "4111 1111 1111 1111")]


@pytest.mark.parametrize("apart", [" ", "-", ".", *"\u00a0\u2007\u202f\u2010\u2011\u2012\u2013"])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("card", "4111 1111 1111 1111"), ("card", "3782 822463 10005"), ("ssn", "078 05 1120"),
        ("iban", "DE89 3704 0044 0532 0130 00"), ("iban", "de89 3704 0044 0532 0130 00"),
        ("iban", "mt84 malt 0110 0001 2345 mtlc ast0 01s"),
    ],
)  # fmt: skip
def test_numbers_with_other_spaces_and_dashes_were_missed(kind: str, value: str, apart: str) -> None:
    written = value.replace(" ", apart)
    assert found(f"It is {written}.", "ssn", "iban", "card", "cn_id") == [(kind, written)]
    assert found(f"It is 1{apart.strip() or '.'}{written}", "card", "ssn") == []  # part of a longer number
    assert found(f"It is {written}{apart.strip() or '-'}1234", "card", "ssn") == []


def test_words_with_the_right_check_digits_are_no_iban() -> None:
    assert is_iban("SE10ISADISTRICTOFLONDONX")
    assert found("se10 is a district of london x", "iban") == []


@pytest.mark.parametrize(
    "text",
    ["https://user:pass@host.com/path", "ssh://git@github.com/org/repo", "git clone git@github.com:org/repo.git",
     "a logo@2x.png", "ICON@3X.JPEG"],
)  # fmt: skip
def test_logins_and_files_were_masked_as_addresses(text: str) -> None:
    assert found(text, "email") == []


@pytest.mark.parametrize(
    "text",
    ["https://host.com/path to bob@example.org", "mailto://bob@example.org", "https://host.com/@bob@example.org",
     "git@example.org: bob@example.org", "https://host.com,bob@example.org", '{"url":"https://host.com","by":"bob@example.org"'],
)  # fmt: skip
def test_addresses_beside_urls_are_found(text: str) -> None:
    assert found(text, "email")[-1] == ("email", "bob@example.org")


def test_only_what_is_asked_for() -> None:
    text = "bob@example.org, 078-05-1120"
    assert found(text, "email") == [("email", "bob@example.org")]
    assert find_personal("(650) 253-0000", ["phone"]) == []  # of which country?


def test_several_in_order_without_overlaps() -> None:
    text = "IBAN DE89 3704 0044 0532 0130 00 AND 4111111111111111, 11010519491231002X; 123-45-67890@example.org"
    assert [kind for kind, _ in found(text)] == ["iban", "card", "cn_id", "email"]


@given(st.text(st.sampled_from("0123456789X -.@aDE"), max_size=80))
def test_found_stretches_never_overlap(text: str) -> None:
    ends = [0]
    for one in find_personal(text, ALL, phone_region="US"):
        assert ends[-1] <= one.start < one.end <= len(text)
        ends.append(one.end)


@given(st.integers(0, 10**14), st.integers(0, 9))
def test_luhn_takes_one_check_digit_of_ten_and_sees_a_wrong_digit(number: int, wrong: int) -> None:
    good = [str(number) + str(digit) for digit in range(10) if luhn(str(number) + str(digit))]
    assert len(good) == 1
    changed = str(wrong) + good[0][1:]
    assert luhn(changed) == (changed == good[0])


def test_check_digits_worked_out_by_hand() -> None:
    # 7992739871: doubled from the right 2 7 18 9 6 7 4 9 18 7 -> 2+7+9+9+6+7+4+9+9+7+... = 67, so the check digit is 3.
    assert luhn("79927398713")
    assert not luhn("79927398710")
    assert is_iban("GB82WEST12345698765432")
    assert not is_iban("GB28WEST12345698765432")
    assert is_cn_id("11010519491231002X")
    assert not is_cn_id("110105194912310020")


@pytest.mark.timeout(60)  # a second or two; in quadratic time it would be minutes
@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "1",
        "1 ",
        "a@",
        "DE89 ",
        "a.b-",
        "4111 ",
        "x@a.",
        "078-05-",
        "+1 650-253-0000 ",
        "a." * 32 + "@",
        "a=",
        "a.a.a@" + ("a-" * 30 + "a.") * 8,
    ],
    ids=lambda unit: repr(unit[:12]),
)
def test_hostile_texts_come_to_an_end(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    kinds = ALL if not unit.startswith("+") else ("email", "ssn", "iban", "card", "cn_id")
    found = find_personal(text, kinds, phone_region="US")
    assert all(0 <= one.start < one.end <= len(text) for one in found)


def test_phone_numbers_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    check_personal(["phone"], phone_region="US")
    with pytest.raises(UserError, match="phone_region is XX"):
        check_personal(["phone"], phone_region="XX")
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    check_personal(["email"], phone_region=None)
    with pytest.raises(UserError, match=r"pip install .*phones"):
        check_personal(["phone"], phone_region="US")
