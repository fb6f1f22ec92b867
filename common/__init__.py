"""What both servers share: settings, logs, times, limits. It knows neither of them."""
