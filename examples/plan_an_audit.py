"""Before the hours are spent: how many random Locations and questions would find what I am looking for?

Run: python examples/plan_an_audit.py
"""

from locus.calibrate.power import power
from locus.errors import UserError


def main() -> list[int | None]:
    """Print power for some sizes of an audit; gives the random Locations each effect needs."""
    try:
        power(16, 200)
    except UserError as error:
        print(f"16 random Locations, as in the paper: {error}")
    needed = []
    for effect in (2.0, 3.0, 4.0):
        found = power(19, 200, effect=effect)["special"]
        needed.append(found["random_for_effect"])
        print(
            f"a claim {effect:g} sd above random Locations: power {found['power']:.0%} with 19 of them; 80 % needs {needed[-1]}"
        )
    return needed


if __name__ == "__main__":
    main()
