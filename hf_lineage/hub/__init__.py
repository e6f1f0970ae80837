"""Models on the Hub: their cards, the papers that the cards name, the command `push`, and errors of the network."""
