package node

import (
	"strconv"
	"sync"
)

// registryCounts counts what clients of the registry ask.
type registryCounts struct {
	mu     sync.Mutex // guards what follows
	served map[string]registryCount
}

// registryCount is of requests of one kind and class of answers.
type registryCount struct {
	action, class   string
	requests, bytes int64
}

// Served implements registry.Observer. Actions are few by their nature, and the
// classes are those of HTTP.
func (c *registryCounts) Served(action string, status int, bytes int64) {
	class := strconv.Itoa(status/100) + "xx"
	c.mu.Lock()
	defer c.mu.Unlock()
	row := c.served[action+class]
	row.action, row.class = action, class
	row.requests++
	row.bytes += bytes
	c.served[action+class] = row
}

func (c *registryCounts) rows() []registryCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	rows := make([]registryCount, 0, len(c.served))
	for _, row := range c.served {
		rows = append(rows, row)
	}
	return rows
}
