# SPDX-License-Identifier: GPL-2.0
"""The host side of unstall: fetch, compose, build, boot, report."""
