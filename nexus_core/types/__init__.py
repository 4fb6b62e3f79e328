"""Values that the core, plugins and workflows exchange. They import nothing of the core."""
