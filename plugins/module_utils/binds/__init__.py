# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Places that containers see, each mounted once more below a directory that only root can change.

Docker follows links in what it binds, and an account may put one where its directory was. So each place is opened step
by step without a link, looked at, and what was opened is mounted, without setuid programs and devices. A container
binds that mount. Where a place is refused there is no mount and no directory, and Docker refuses to start.

Pure: bind (one place, as declared). What looks: observe_place, observe_processes and fstab. What acts: mount_place,
apply_binds (a set of places), declared (root's files) and program (at boot, and by hand).
"""
