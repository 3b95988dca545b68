"""Sphinx's settings. `scripts/docs` builds the site, offline."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from mira import __version__

project = "mira"
author = "The mira developers"
project_copyright = "2026, the mira developers. Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mira_reference"]
exclude_patterns = ["_ext"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes = False  # it would turn --set into a dash
default_role = "literal"  # docstrings write code in single backquotes

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"mira {__version__}"
html_copy_source = False
html_show_sourcelink = False
