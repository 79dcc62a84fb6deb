"""Documents that answer none of the questions: what a measure of retrieval must give nearly nothing for.

Written for this project. An index of them has as many passages as any other, and finds three for every question.
"""

BANANAS = {
    "bananas_growing.md": (
        "# Growing bananas\n\n"
        "A banana plant looks like a tree and is a herb. It grows from a corm in the ground, and its false stem "
        "is made of leaf sheaths that lie tightly in each other. After nine months a purple bud bends down and "
        "opens, bract after bract, over small yellow flowers. Warm, wet air suits it; frost kills the leaves in "
        "one night, though the corm may sprout anew in spring."
    ),
    "bananas_harvest.md": (
        "# Harvest\n\n"
        "Bunches are cut while they are green and hard. One worker holds the stalk on his shoulder, a second one "
        "cuts it with a machete. On the farm the hands are separated, washed in long basins, and laid in cartons "
        "of eighteen kilograms. Cool ships carry them north at thirteen degrees."
    ),
    "bananas_ripening.md": (
        "# Ripening\n\n"
        "In closed rooms the green fruit meets ethylene gas, and within five days its starch has turned to sugar. "
        "The peel goes from green to yellow, then brown freckles appear. A ripe apple in the same bowl does the "
        "same at home, more slowly."
    ),
    "bananas_kitchen.md": (
        "# In the kitchen\n\n"
        "Fried in butter with lime juice and brown sugar, slices of banana are done in four minutes. Overripe "
        "ones go into bread: mash three of them with a fork, stir in flour, eggs, walnuts and cinnamon, and bake "
        "the loaf for an hour. Plantains are starchier and taste best boiled or as crisps."
    ),
    "bananas_history.md": (
        "# History\n\n"
        "People of New Guinea planted bananas seven thousand years ago. Sailors took them to Africa, and "
        "Portuguese monks to the Canary Islands. The variety Gros Michel ruled the trade until a fungus of the "
        "soil ruined the plantations; Cavendish took its place, and now meets a fungus of its own."
    ),
}
