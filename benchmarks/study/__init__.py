"""The study: methods compared on three tasks of the playground over many seeds. See PROTOCOL.md."""
