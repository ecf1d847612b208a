"""What MkDocs has to be told: documents outside `docs/` are pages of the site too.

Links in all documents are those of the repository, as GitHub follows them. Here they
are led to the pages of the site; one that leads to nothing the site has is an error.
"""

import pathlib
import posixpath
import re

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "deploy.md",
    "saved_models/README.md": "saved-models.md",
    "sat_tf/presets/flickr8k_hard/README.md": "captioners/flickr8k_hard.md",
    "sat_tf/presets/scenes_hard/README.md": "captioners/scenes_hard.md",
}
COPIES = {
    "sat_tf/trunks/weights/NOTICE": "NOTICE.txt",
    **{f"notebooks/{p.name}": p.name for p in sorted(ROOT.glob("notebooks/*.ipynb"))},
}
_SOURCES = {page: source for source, page in PAGES.items()}
# Code first: what looks like a link in it is none.
_LINK = re.compile(
    r"```.*?```|`[^`]+`|(?P<before>\]\()(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)",
    re.S,
)
_ESCAPED = re.compile(r"(?<=\w)\\\|(?=\w)")
_EXTERNAL = re.compile(r"[a-z]+:")


def on_files(files, config):
    """Adds the documents that lie elsewhere."""
    for source, page in (PAGES | COPIES).items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Leads links to pages, and takes back what GitHub's tables need."""
    del config
    path = page.file.src_uri
    source = _SOURCES.get(path, f"docs/{path}")

    def lead(match):
        before, target, anchor = match.group("before", "target", "anchor")
        if target is None or _EXTERNAL.match(target):
            return match[0]
        found = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = (PAGES | COPIES).get(found) or found.removeprefix("docs/")
        if files.get_file_from_path(there) is None:
            raise PluginError(f"{source} links to {target}, which the site has not.")
        relative = posixpath.relpath(there, posixpath.dirname(path))
        return f"{before}{relative}{anchor or ''})"

    # GitHub wants a `|` escaped in the code of a table; here it would show as written.
    return _ESCAPED.sub("|", _LINK.sub(lead, markdown))
