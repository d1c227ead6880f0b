"""Flow matching of molecules whose bonds are drawn first."""
