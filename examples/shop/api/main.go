// Command api is the shop's API: a function, made anew for each request.
//
// A function gets its request as a CGI program does. The method, the path and
// the headers are in the environment, the body is standard input; the answer
// is written to standard output: headers, a blank line, the body. What goes to
// standard error is in the log.
//
//	GET  /            the goods, and where this answer was made
//	GET  /goods/rope  one of them
//	POST /order       {"good": "rope", "quantity": 2}
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// Good is something that the shop sells.
type Good struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Cents int    `json:"cents"`
}

var goods = []Good{
	{"rope", "Hemp rope, 10 fathoms", 1250},
	{"salt", "Salt of Lüneburg, a sack", 800},
	{"amber", "Amber, a string", 4200},
	{"herring", "Herring, a barrel", 1975},
}

// Place says which of the shop's instances answered.
type Place struct {
	Site string `json:"site"`
	Peer string `json:"peer"`
	Slot string `json:"slot"`
}

func here() Place {
	return Place{os.Getenv("HANSA_SITE"), os.Getenv("HANSA_PEER"), os.Getenv("HANSA_SLOT")}
}

func main() {
	method, path := os.Getenv("REQUEST_METHOD"), os.Getenv("PATH_INFO")
	id, isGood := strings.CutPrefix(path, "/goods/")
	switch {
	case path == "" || path == "/":
		if allow(method, "GET") {
			answer(200, map[string]any{"shop": os.Getenv("SHOP_NAME"), "served_by": here(), "goods": goods})
		}
	case isGood:
		if allow(method, "GET") {
			showGood(id)
		}
	case path == "/order":
		if allow(method, "POST") {
			takeOrder(os.Stdin)
		}
	default:
		fail(404, "there is no "+path)
	}
}

func find(id string) (Good, bool) {
	for _, g := range goods {
		if g.ID == id {
			return g, true
		}
	}
	return Good{}, false
}

func showGood(id string) {
	g, ok := find(id)
	if !ok {
		fail(404, "we have no "+id)
		return
	}
	answer(200, g)
}

func takeOrder(body io.Reader) {
	var order struct {
		Good     string `json:"good"`
		Quantity int    `json:"quantity"`
	}
	if err := json.NewDecoder(io.LimitReader(body, 4096)).Decode(&order); err != nil {
		fail(400, "the order is not JSON: "+err.Error())
		return
	}
	g, ok := find(order.Good)
	if !ok || order.Quantity < 1 || order.Quantity > 1000 {
		fail(400, "an order names one of our goods, and a quantity from 1 to 1000")
		return
	}
	fmt.Fprintf(os.Stderr, "sold %d of %s\n", order.Quantity, g.ID)
	answer(201, map[string]any{"good": g, "quantity": order.Quantity, "cents": g.Cents * order.Quantity, "served_by": here()})
}

// allow reports whether the method is one of the path's, and answers if not.
func allow(method, want string) bool {
	if method == want || (want == "GET" && method == "HEAD") {
		return true
	}
	fmt.Printf("Allow: %s\n", want)
	fail(405, want+" is the method here")
	return false
}

func answer(status int, body any) {
	b, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("Status: %d\nContent-Type: application/json\nContent-Length: %d\n\n%s\n", status, len(b)+1, b)
}

func fail(status int, why string) {
	answer(status, map[string]string{"error": why})
}
