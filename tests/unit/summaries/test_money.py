"""Amounts: as many decimals as the currency has, whatever a sender's unit is."""

import pytest

from hookstream.app.summaries.money import write_amount
from hookstream.app.summaries.templates import compile_template

#: docs.stripe.com/currencies: "Zero-decimal", "Three-decimal" and "Special case" currencies.
STRIPE = "ISK2 MGA0 UGX2"


@pytest.mark.parametrize(
    ("amount", "currency", "sent", "written"),
    [
        (1234, "usd", "", "12.34 USD"),
        (1234, "JPY", "", "1234 JPY"),
        (1234, "CLP", "", "1234 CLP"),
        (1234, "KWD", "", "1.234 KWD"),
        (1234, "tnd", "", "1.234 TND"),
        (12345, "CLF", "", "1.2345 CLF"),
        (12345, "UYW", "", "1.2345 UYW"),
        (1234, "ISK", "", "1234 ISK"),
        (1234, "MGA", "", "12.34 MGA"),
        # Stripe: zero-decimal, but sent as if they had two
        (50000, "isk", STRIPE, "500 ISK"),
        (50000, "ugx", STRIPE, "500 UGX"),
        (50050, "ugx", STRIPE, "500.50 UGX"),
        (500, "mga", STRIPE, "500 MGA"),
        (500, "jpy", STRIPE, "500 JPY"),
        # and in hundredths, also where only whole amounts are paid out
        (1250000, "huf", STRIPE, "12500.00 HUF"),
        (80045, "twd", STRIPE, "800.45 TWD"),
        (5120, "bhd", STRIPE, "5.120 BHD"),
        # Adyen's own decimals of some
        (1234, "CLP", "IDR0 CLP2", "12.34 CLP"),
        (1234, "IDR", "IDR0 CLP2", "1234 IDR"),
        (1234, "EUR", "EUR9 EURx EUR", "12.34 EUR"),
        (-5, "EUR", "", "-0.05 EUR"),
        (0, "EUR", "", "0.00 EUR"),
        (12, "", "", "0.12"),
        # more than a float can hold
        (9_007_199_254_740_993, "EUR", "", "90071992547409.93 EUR"),
    ],
)
def test_amounts_have_the_decimals_of_their_currency(
    amount: int, currency: str, sent: str, written: str
) -> None:
    assert write_amount(amount, currency, sent) == written
    source = f"{{{{ {amount} | money('{currency}', '{sent}') }}}}"
    assert compile_template("*", source).render({}, {}, {}) == written


@pytest.mark.parametrize("value", ["'5'", "payload.x", "true", "1.5", "9" * 19])
def test_what_is_no_amount_is_nothing(value: str) -> None:
    if value == "9" * 19:
        amount = compile_template("*", "{{ payload.x | money('EUR') }}")
        assert amount.render({}, {"x": int(value)}, {}) == ""
    else:
        source = f"{{{{ {value} | money('EUR') }}}}"
        assert compile_template("*", source).render({}, {}, {}) == ""
