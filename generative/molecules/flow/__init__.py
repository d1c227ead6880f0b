"""The default generator of molecules: flow matching on united atoms."""
