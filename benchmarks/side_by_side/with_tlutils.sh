tlutils train photographs
