# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command mesh-run and the mesh's service: what runs in the mesh's container, in workspaces and on nodes.

Standard library alone, Python 3.9: the front runs with the Python of a node, all else with that of the image.
"""
