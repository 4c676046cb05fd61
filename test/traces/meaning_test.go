package traces

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMatchesAreComparedByMeaning(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		same       bool
	}{
		{"order does not count", "ip,in_port=1,nw_src=10.0.0.1", "in_port=1,nw_src=10.0.0.1,ip", true},
		{"hexadecimal is decimal", "reg0=0x82f8b2", "reg0=8583346", true},
		{"a prefix is a mask", "ip,nw_dst=10.128.0.0/14", "ip,nw_dst=10.128.0.0/255.252.0.0", true},
		{"an address is a prefix of one", "ip,nw_dst=10.0.0.1", "ip,nw_dst=10.0.0.1/32", true},
		{"ARP has its own names", "arp,nw_src=10.0.0.1", "arp,arp_spa=10.0.0.1", true},
		{"a port has its protocol's name", "tcp,tp_dst=80", "tcp,tcp_dst=80", true},
		{"another length is another prefix", "ip,nw_dst=10.128.0.0/14", "ip,nw_dst=10.128.0.0/15", false},
		{"another protocol", "tcp,tp_dst=80", "udp,tp_dst=80", false},
		{"a field more", "ip", "ip,in_port=2", false},
		{"a mask with holes is not a prefix", "ip,nw_dst=10.0.0.0/255.0.255.0", "ip,nw_dst=10.0.0.0/8", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sameMatch(c.a, c.b); got != c.same {
				t.Errorf("%q and %q: got same = %v", c.a, c.b, got)
			}
		})
	}
}

func TestActionsAreComparedByMeaning(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b []string
		same bool
	}{
		{"load is set_field", []string{"load:0x3->NXM_NX_REG2[]"}, []string{"set_field:3->reg2"}, true},
		{"a whole register has two names", []string{"output:NXM_NX_REG2[0..31]"}, []string{"output:NXM_NX_REG2[]"}, true},
		{"drop is no action", []string{"drop"}, nil, true},
		{"order counts", []string{"output:1", "output:2"}, []string{"output:2", "output:1"}, false},
		{"another register", []string{"load:3->NXM_NX_REG2[]"}, []string{"load:3->NXM_NX_REG1[]"}, false},
		{"part of a register", []string{"load:3->NXM_NX_REG2[0..15]"}, []string{"load:3->NXM_NX_REG2[]"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sameActions(c.a, c.b); got != c.same {
				t.Errorf("%q and %q: got same = %v", c.a, c.b, got)
			}
		})
	}
}

func TestAnswerOfTheUserspaceDatapathStopsAtThePodBridge(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "native-tunnel.txt"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ParseAnswer(string(text), "br0")
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Steps[len(answer.Steps)-1]; len(answer.Steps) != 5 || got.Table != 90 || len(got.Actions) != 3 {
		t.Errorf("got %d steps, the last %s", len(answer.Steps), got)
	}
	if want := (End{Port: 1, Node: "192.168.108.111", TunID: 0x2a}); answer.End != want {
		t.Errorf("got end %s, want %s", answer.End, want)
	}
}

func FuzzParseAnswer(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "native-tunnel.txt"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("bridge(\"br0\")\n 5. No match.\n    drop\n")
	f.Add("bridge(\"br0\")\n 0. priority 99999999999999999999\n")
	f.Fuzz(func(t *testing.T, text string) {
		answer, err := ParseAnswer(text, "br0")
		if err == nil && len(answer.Steps) == 0 {
			t.Error("an answer without steps and without an error")
		}
		for _, step := range answer.Steps {
			if !sameMatch(step.Match, step.Match) || !sameActions(step.Actions, step.Actions) {
				t.Errorf("%s is not like itself", step)
			}
		}
	})
}
