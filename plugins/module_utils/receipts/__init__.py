# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What roles leave on a host, so that the next run sees whether they have to run.

Pure: receipts (what vouches, and what does not), drift_report. What touches the host: receipt_store (receipts, and
notes of runs that left none), probes (each kind of thing) and agent, which answers the controller.
"""
