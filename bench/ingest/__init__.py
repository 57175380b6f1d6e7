"""What goes into the gateway and comes out of it as bytes: uploads, and results."""
