"""The label engine: it runs a graph on labels and collects facts about which elements are interchangeable."""
