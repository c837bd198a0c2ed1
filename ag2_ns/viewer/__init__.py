"""The viser panel."""
