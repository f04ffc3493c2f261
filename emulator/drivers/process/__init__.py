"""The process runtime: instances as sandboxed processes of this machine."""
