"""Problems that ship with evonas."""
