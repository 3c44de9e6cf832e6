package placement

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func digestOf(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// One file reads and writes as a text, several as an object, on the wire as text.
func TestPackageForms(t *testing.T) {
	for _, form := range []string{`"sha256:abc"`, `"./meter"`, `{"amd64":"./a","arm64":"./b"}`} {
		var p Package
		if err := json.Unmarshal([]byte(form), &p); err != nil {
			t.Fatal(err)
		}
		if back, err := json.Marshal(p); err != nil || string(back) != form {
			t.Errorf("%s came back as %s, %v", form, back, err)
		}
		var wire Package
		if err := Decode(Encode(p), &wire); err != nil || wire != p {
			t.Errorf("%s went over the wire as %q, %v", form, wire, err)
		}
	}
	for _, form := range []string{`{}`, `[]`, `7`, `{"amd64": 3}`, `"{\"amd64\":\"./a\"}"`} {
		var p Package
		if err := json.Unmarshal([]byte(form), &p); err == nil {
			t.Errorf("%s was taken for %q", form, p)
		}
	}
	several := PackageOf(map[string]string{"arm64": "b", "amd64": "a"})
	if several.For("amd64") != "a" || several.For("riscv64") != "" || Package("x").For("riscv64") != "x" {
		t.Error("a file for the wrong architecture")
	}
	if files := several.Files(); !slices.Equal(files, []string{"a", "b"}) {
		t.Errorf("files %v", files)
	}
	var old string // as an older release has it
	if err := Decode(Encode(Package("sha256:abc")), &old); err != nil || old != "sha256:abc" {
		t.Errorf("one file is on the wire as %q, %v", old, err)
	}
}

// A component runs on what it names, and else on what it has files for; a host
// needs its own alone, and the keepers all.
func TestArchitecture(t *testing.T) {
	several := Component{Server: &Server{Process: &Process{Command: []string{"meter"},
		Artifact: PackageOf(map[string]string{"amd64": digestOf("a"), "arm64": digestOf("b")})}}}
	only := several
	only.Architecture = []string{"arm64"}
	for name, x := range map[string]struct {
		c    Component
		have []string
		runs bool
	}{
		"any":                  {Component{Function: &Function{}}, []string{"amd64"}, true},
		"files for it":         {several, []string{"arm64"}, true},
		"no file for it":       {several, []string{"riscv64"}, false},
		"does not say":         {several, nil, false},
		"named":                {only, []string{"arm64"}, true},
		"files, but not named": {only, []string{"amd64"}, false},
	} {
		if why := x.c.wrongArch(x.have); (why == "") != x.runs {
			t.Errorf("%s: %q", name, why)
		}
	}
	if got := several.ArtifactsOn("arm64"); !slices.Equal(got, []string{digestOf("b")}) {
		t.Errorf("an arm64 host needs %v", got)
	}
	if got := (App{Components: map[string]Component{"c": several}}).Artifacts(); len(got) != 2 {
		t.Errorf("the app has %v", got)
	}
}

func TestArchitectureIsChecked(t *testing.T) {
	a, b := digestOf("a"), digestOf("b")
	both := map[string]string{"amd64": a, "arm64": b}
	for name, x := range map[string]struct {
		c     Component
		field string // of what is wrong; "" for nothing
	}{
		"right":     {Component{Server: &Server{Kernel: PackageOf(both), Initrd: PackageOf(both)}}, ""},
		"one alone": {Component{Server: &Server{Kernel: PackageOf(both), Initrd: Package(a)}}, ""},
		"path":      {Component{Server: &Server{Kernel: PackageOf(map[string]string{"amd64": "./x"})}}, "components.c.server.kernel.amd64"},
		"unknown":   {Component{Server: &Server{Kernel: PackageOf(map[string]string{"vax": a})}}, "components.c.server.kernel.vax"},
		"no file for it": {Component{Architecture: []string{"riscv64"}, Server: &Server{Kernel: PackageOf(both)}},
			"components.c.architecture[0]"},
		"nothing in common": {Component{Server: &Server{Kernel: PackageOf(map[string]string{"amd64": a}), Initrd: PackageOf(map[string]string{"arm64": b})}},
			"components.c"},
	} {
		err := App{Name: "a", Components: map[string]Component{"c": x.c}}.Validate()
		errs, _ := err.(FieldErrors)
		switch {
		case x.field == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case x.field != "" && (len(errs) == 0 || errs[0].Field != x.field):
			t.Errorf("%s: %v, and not %s", name, err, x.field)
		}
	}
}

// Only peers that match are planned with.
func TestPlanFiltersByArchitecture(t *testing.T) {
	in := planFor(2, Place{}, peersFor(2))
	c := in.App.Components["c"]
	c.Architecture = []string{"arm64"}
	in.App.Components["c"] = c
	in.Candidates[0].Digest.Arch, in.Candidates[1].Digest.Arch = []string{"amd64"}, []string{"arm64"}
	res := Plan(in)
	if res.Assign["p001"].Len() != 2 || res.Assign["p000"].Len() != 0 {
		t.Errorf("placed %v", res.Assign)
	}
	if why := considered(t, res, "p000").Reason; why != "it is amd64, and this runs on arm64 alone" {
		t.Errorf("the reason is %q", why)
	}
}

// Whatever an asker thinks, a ledger takes nothing that its host can't run.
func TestLedgerRefusesOtherArchitectures(t *testing.T) {
	l := newLedger(PeerRef{Peer: "p"}, Tuning{}.withDefaults(), 0)
	l.hostChanged(Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 1000}})
	l.listed[DriverProcess] = true
	comp := Component{Architecture: []string{"arm64"}, Server: &Server{Process: &Process{Command: []string{"x"}}}}
	granted, why := l.fits(Now{}, &askMsg{Slots: FirstSlots(1)}, comp, &Intent{}, &Intent{})
	if !granted.slots.IsEmpty() || !strings.Contains(why, "arm64") {
		t.Errorf("granted %s: %q", granted.slots, why)
	}
}
