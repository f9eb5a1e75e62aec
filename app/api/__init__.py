"""HTTP, one file per noun: headers, status codes and bodies. What is done lives in `app.services`."""
