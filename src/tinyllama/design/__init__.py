"""From text and a budget to a recipe: published rules, shapes, sizes, and the recipe with a reason for each number."""
