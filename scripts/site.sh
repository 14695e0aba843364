#!/bin/sh
# Builds the documentation's site into .cache/site. Warnings, dead links and pages that nobody finds are errors.
set -eu
home=.cache/docs
scripts/venv.sh "$home/venv" requirements/docs.txt "$(scripts/find_python.sh 14)"
# Of the theme, about a MkDocs to come: ours is pinned.
export NO_MKDOCS_2_WARNING=1
"$home/venv/bin/mkdocs" build --quiet --strict --site-dir "$PWD/.cache/site"
echo "the site: .cache/site/index.html; with its search: python3 -m http.server -d .cache/site"
