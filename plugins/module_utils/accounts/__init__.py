# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Accounts of people on a host: their ids, files and keys.

Pure: accounts_plan (what role accounts wants), common_place (groups, and what they have in common on the share),
host_accounts (what is observed, as values), uid_match and removal (what is to be done), authorized_keys (the text of
the file). What touches the host: observe_accounts, apply_accounts,
renumber_files, freed_ids, apply_authorized_keys and keys_trial.
"""
