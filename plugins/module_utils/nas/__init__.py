# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The share that all nodes mount: its mount point, its layout, quotas, and the nodes' records there.

Pure: nas_plan (what role nas wants), layout and nas_files (entries of the share, and what is to be done about them).
What touches the host or the share: apply_nas_files, nas_mountpoint, node_records, nas_mounts, nas_quotas, and for a
single node that gets a share move_share and copy_tree. quota_report runs by itself, on the server.
"""
