// Command price is the mixed app's function: it says what so many of something
// cost.
//
//	GET /?quantity=3
package main

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
)

const cents = 1250

func main() {
	query, err := url.ParseQuery(os.Getenv("QUERY_STRING"))
	quantity := 1
	if text := query.Get("quantity"); err == nil && text != "" {
		quantity, err = strconv.Atoi(text)
	}
	if err != nil || quantity < 0 {
		fmt.Print("Status: 400 Bad Request\nContent-Type: text/plain\n\nquantity: a whole number is wanted\n")
		return
	}
	fmt.Printf("Content-Type: application/json\n\n{\"quantity\": %d, \"cents\": %d, \"site\": %q}\n", quantity, quantity*cents, os.Getenv("HANSA_SITE"))
}
