tlutils train photographs --advise 2
