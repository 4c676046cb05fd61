package allocation_test

import (
	"testing"

	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
)

func TestAListIsMadeAnewOnlyWhenSomethingChanged(t *testing.T) {
	s, _ := replica(t, natsdtest.New(t), "ipam", nil)
	created(t, s, one(t, "10.128.0.0/14", 9))
	registered(t, s, node("n1", "u", 1))
	first, sequence, err := s.HostSubnets(soon())
	if err != nil {
		t.Fatal(err)
	}
	again, same, err := s.HostSubnets(soon())
	if err != nil || same != sequence || again[0] != first[0] {
		t.Errorf("nothing changed: got another list at %d, was %d (%v)", same, sequence, err)
	}
	registered(t, s, node("n2", "u", 2))
	after, later, err := s.HostSubnets(soon())
	if err != nil || later <= sequence || len(after) != 2 || len(first) != 1 {
		t.Errorf("got %d at %d, was %d at %d (%v)", len(after), later, len(first), sequence, err)
	}
}
