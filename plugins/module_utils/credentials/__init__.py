# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is secret in settings, such as a password in a URL, and how proxies' passwords reach only who needs them."""
