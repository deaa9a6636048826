"""What the bar sells, and the names that an order may hold."""

DRINKS = (
    "espresso",
    "americano",
    "latte",
    "cappuccino",
    "flat white",
    "mocha",
    "black tea",
    "green tea",
    "chai",
    "hot chocolate",
    "lemonade",
)
FOOD = (
    "croissant",
    "plain bagel",
    "blueberry muffin",
    "cinnamon roll",
    "cheese sandwich",
    "brownie",
    "banana bread",
)
SIZES = ("small", "medium", "large")
EXTRAS = (
    "iced",
    "decaf",
    "oat milk",
    "soy milk",
    "extra shot",
    "vanilla",
    "caramel",
    "whipped cream",
)  # in reply order
MAX_COUNT = 12
