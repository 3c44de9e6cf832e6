package process

import (
	"fmt"
	"hash/fnv"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
)

// account is who a program runs as.
type account struct {
	UID    int   `json:"uid"`
	GID    int   `json:"gid"`
	Groups []int `json:"groups,omitempty"`
	// Bound means that it never gains privileges, by no set-user-id program.
	Bound bool `json:"bound,omitempty"`
}

// Users without privileges that nobody else has: one for each app, since its
// components share volumes over time and trust one another, and apps do not.
const (
	accountFirst = 0x48000000
	accountCount = 1 << 24
)

// appAccount is the user of the app that the environment names, as the node has
// it for every task; else it is the task's alone.
func appAccount(t driver.Task) *account {
	h := fnv.New32a()
	app := t.Env["HANSA_APP"]
	if app == "" {
		app = t.ID
	}
	fmt.Fprintf(h, "%s\x00%s", t.Env["HANSA_NAMESPACE"], app) // never fails
	id := accountFirst + int(h.Sum32()%accountCount)
	return &account{UID: id, GID: id, Bound: true}
}

// accountFor is who the task runs as; nil is who the daemon is.
func accountFor(t driver.Task, own isolation) (*account, error) {
	name := t.Process.User
	if os.Geteuid() != 0 {
		if name == "" || isMe(name) {
			return nil, nil
		}
		return nil, fmt.Errorf("%w %q: it is to run as user %q, and this daemon can't change users: it runs as user %d, not as root", driver.ErrInvalid, t.ID, name, os.Geteuid())
	}
	switch {
	case name == "" && own == isolatedByRoot:
		return appAccount(t), nil
	case name == "":
		return nil, nil // its folder can't be shown to anybody else
	}
	a, err := lookUp(name)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", driver.ErrInvalid, t.ID, err)
	}
	if a.UID == 0 && a.GID == 0 {
		return nil, nil
	}
	return a, nil
}

func isMe(name string) bool {
	me, err := user.Current()
	return name == strconv.Itoa(os.Geteuid()) || err == nil && me.Username == name
}

// lookUp reads "name", "uid", "name:group" or "uid:gid".
func lookUp(text string) (*account, error) {
	name, group, withGroup := strings.Cut(text, ":")
	var a account
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			if a.UID, err = number(name); err != nil {
				return nil, fmt.Errorf("there is no user %q on this machine", name)
			}
			a.GID = a.UID
		}
	}
	if err == nil && u != nil {
		if a.UID, err = number(u.Uid); err == nil {
			a.GID, err = number(u.Gid)
		}
		if err != nil {
			return nil, fmt.Errorf("user %q has odd ids: %w", name, err)
		}
		ids, _ := u.GroupIds() // the primary one is known already
		for _, id := range ids {
			if n, err := number(id); err == nil && n != a.GID {
				a.Groups = append(a.Groups, n)
			}
		}
	}
	if !withGroup {
		return &a, nil
	}
	if g, err := user.LookupGroup(group); err == nil {
		group = g.Gid
	}
	if a.GID, err = number(group); err != nil {
		return nil, fmt.Errorf("there is no group %q on this machine", group)
	}
	a.Groups = nil
	return &a, nil
}

func number(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err
}

// give makes a file the account's; of nobody else it stays who made it.
func (a *account) give(path string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(path, a.UID, a.GID)
}

// giveTree is give for a folder and all in it, unless the folder is the account's
// already. Nothing may run in it.
func (a *account) giveTree(path string) error {
	if a == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if int(st.Uid) == a.UID && int(st.Gid) == a.GID {
		return nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := a.giveTree(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return a.give(path)
}
