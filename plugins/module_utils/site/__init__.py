# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The site as a whole: what is checked before a host is touched, the summary at the end, the machine of a user."""
