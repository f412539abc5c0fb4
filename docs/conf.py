# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of the documentation website: `make docs`.

The source directory is the whole checkout, and Sphinx reads only the pages named here. Links between pages are
therefore the same on the site as in the repository, and the recipes' pages need no copy.
"""

import re

project = "RawNeXt"
html_title = "RawNeXt"
copyright = "the RawNeXt recipe's authors, Apache-2.0"

root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "docs/**/*.md", "egs/*/README.md",
                    "egs/*/RESULTS.md", "egs/*/pack/LICENCES.md", "rawnext/pretrained/README.md"]
exclude_patterns = [".*", "site", "egs/*/conf", "egs/*/local", "egs/*/steps", "egs/*/utils", "egs/*/data", "egs/*/exp",
                    "tests"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]    # RESULTS.md has steps/compare.py's tables, a heading level deeper
highlight_language = "text"      # commands are shown without highlighting

html_theme = "furo"              # system fonts; nothing is fetched
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["root"]       # index.html, which redirects to docs/index.html
html_use_index = False
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"source_view_link": ""}

autodoc_member_order = "bysource"
autoclass_content = "class"
default_role = "code"                      # for single backticks
autodoc_class_signature = "separated"      # an Extractor is built with from_pretrained
nitpick_ignore_regex = [("py:.*", r"(?!rawnext).*")]    # names of other projects have no links
nitpick_ignore = [("py:class", "rawnext.config.Config")]    # of the constructor, which users need not call


def open_sections(app, what, name, obj, options, lines):
    """Convert docstrings for napoleon: `Args: a: ...   b: ...` on one line becomes one line per argument."""
    text = re.sub(r"^( *)(Args|Returns|Raises): (?=\S)", r"\1\2:\n\1    ", "\n".join(lines), flags=re.M)
    text = re.sub(r"^( *)(.*)$", lambda line: line[1] + re.sub(r"(?<=\S) {3}(?=[\w, ]+: )", f"\n{line[1]}", line[2]),
                  text, flags=re.M)
    lines[:] = text.splitlines()


def setup(app):
    app.connect("autodoc-process-docstring", open_sections, priority=400)    # before napoleon
