"""Players that only exist here: each speaks just enough of its game's protocol to be one."""
