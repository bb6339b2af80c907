"""From a project folder to its model: the builder behind ``project.py``, and everything wrong at once."""
