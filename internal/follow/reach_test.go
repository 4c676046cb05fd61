package follow

import (
	"context"
	"errors"
	"testing"

	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
)

func TestReachWaitsUntilAChangeIsToldEvenIfItWasLost(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	s.put("red", 1)
	f := newFollower(t, server.Connect(), s, Options[namespace]{})
	f.Want("red")
	f.start().synced()
	f.deafen()
	last := s.put("red", 2)
	if err := f.Reach(soon(t), last); err != nil {
		t.Fatal(err)
	}
	if n := len(f.events); n != 2 {
		t.Errorf("%d events were told, want 2", n)
	}
	f.expect("red=1", "red=2")
	before := s.listed()
	if err := f.Reach(soon(t), last); err != nil || s.listed() != before {
		t.Errorf("what is reached was asked for again: %v", err)
	}
	// A change of what nobody follows is reached as well.
	if err := f.Reach(soon(t), s.put("blue", 3)); err != nil {
		t.Error(err)
	}
	s.setAway(true)
	ctx, cancel := context.WithCancel(soon(t))
	cancel()
	if err := f.Reach(ctx, s.put("red", 4)); !errors.Is(err, context.Canceled) {
		t.Errorf("without the service: %v", err)
	}
}
