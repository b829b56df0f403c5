"""`python -m appliance`: the same as the `dynamo-appliance` executable."""

from appliance.cli import main

if __name__ == "__main__":
    main()
