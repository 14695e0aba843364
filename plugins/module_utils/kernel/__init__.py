# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the kernel has mounted, its calls that mount, and what processes have open.

Pure: mountinfo (its list). What touches the host: mounts.
"""
