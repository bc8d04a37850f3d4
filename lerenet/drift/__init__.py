"""What the images look like (`profile`), and whether those that came since look otherwise (`compare`)."""
