"""How good a rendered talking face is: measured in its pictures, shown, and judged side by side."""
