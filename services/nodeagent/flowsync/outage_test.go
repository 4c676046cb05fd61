package flowsync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

func TestWithoutTheSwitchAChangeIsKeptAndInstalledLater(t *testing.T) {
	ovs, s := start(t)
	want := wanted{"pod a/1": pod(1, 7)}
	reconcile(t, s, want)
	<-s.Connected()
	ovs.KillVswitchd()
	want["pod a/2"] = pod(2, 7)
	if err := s.Apply(t.Context(), Change{"pod a/2", pod(2, 7)}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if _, err := s.Reconcile(t.Context(), nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	ovs.StartVswitchd(t)
	select {
	case <-s.Connected():
	case <-time.After(limit):
		t.Fatal("no connection")
	}
	if err := s.Apply(t.Context(), Change{"pod a/3", pod(3, 7)}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("before the comparison got %v, want ErrUnavailable", err)
	}
	want["pod a/3"] = pod(3, 7)
	if diff := reconcile(t, s, nil); len(diff.Added) != 9 {
		t.Errorf("got %d added, want all 9", len(diff.Added))
	}
	compareAll(t, s, want)
	if got := ovs.Ofctl(t, "get-frags", "br0"); !strings.Contains(got, "nx-match") {
		t.Errorf("fragment mode after the restart: got %q", got)
	}
}

func TestABridgeThatComesLaterIsFoundAtOnce(t *testing.T) {
	ovs := ovstest.Start(t, ovstest.Options{})
	// The bridge is not there yet, so its socket's path is not known to ovstest.
	s := New(Config{Socket: filepath.Join(ovs.Dir(), "br0.mgmt")}, hclog.NewNullLogger())
	var wait sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	wait.Go(func() { _ = s.Run(ctx) })
	defer wait.Wait()
	defer cancel()
	if _, err := s.Reconcile(t.Context(), wanted{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	ovs.AddBridge(t, "br0")
	reconcile(t, s, wanted{"pod a/1": pod(1, 7)})
	compareAll(t, s, wanted{"pod a/1": pod(1, 7)})
}

func TestACancelledApplyIsCompletedLater(t *testing.T) {
	_, s := start(t)
	reconcile(t, s, wanted{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Apply(ctx, Change{"pod a/1", pod(1, 7)}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want cancelled", err)
	}
	apply(t, s, Change{"pod a/1", pod(1, 7)})
	compareAll(t, s, wanted{"pod a/1": pod(1, 7)})
	if got := slices.Collect(maps.Values(s.names())); !slices.Equal(got, []string{"pod a/1"}) {
		t.Errorf("owners got %q", got)
	}
}

func TestAHangingSwitchDoesNotHoldUpPastTheDeadline(t *testing.T) {
	ovs, s := start(t)
	reconcile(t, s, wanted{})
	if err := syscall.Kill(ovs.VswitchdPid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Apply(ctx, Change{"pod a/1", pod(1, 7)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	if err := syscall.Kill(ovs.VswitchdPid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if diff := reconcile(t, s, nil); len(diff.Added) != 3 {
		t.Errorf("got %+v, want the pod's three flows added", diff)
	}
	compareAll(t, s, wanted{"pod a/1": pod(1, 7)})
}

func TestAChangeWithAnUnknownOutcomeIsSentAgain(t *testing.T) {
	tab := newTable()
	lost := fmt.Errorf("commit: %w", openflow.ErrOutcomeUnknown)
	send := func(err error, changes ...Change) []openflow.Mod {
		st := tab.stage(changes)
		var b batch
		tab.load(&b, st.differing(), func(yield func(openflow.Key, *record) bool) {
			for _, s := range st.touched {
				if !yield(s.key, s.record) {
					return
				}
			}
		})
		tab.settle(&b, err)
		return b.mods
	}
	commands := func(mods []openflow.Mod) string {
		var text []string
		for _, m := range mods {
			text = append(text, m.Command.String())
		}
		return strings.Join(text, " ")
	}
	steps := []struct {
		what    string
		outcome error
		change  Change
		want    string
		present int
	}{
		{"added, and the answer is lost", lost, Change{"a", pod(1, 7)}, "add add add", 0},
		{"the same again", nil, Change{"a", pod(1, 7)}, "add add add", 3},
		{"nothing to do", nil, Change{"a", pod(1, 7)}, "", 3},
		{"changed, and the answer is lost", lost, Change{"a", pod(1, 8)[:2]}, "add delete", 1},
		{"back to what may still be there", nil, Change{"a", pod(1, 7)}, "add add", 3},
		{"deleted, and the answer is lost", lost, Change{"a", nil}, "delete delete delete", 0},
		{"wanted once more", nil, Change{"a", pod(1, 7)}, "add add add", 3},
		{"deleted", nil, Change{"a", nil}, "delete delete delete", 0},
	}
	for _, step := range steps {
		if got := commands(send(step.outcome, step.change)); got != step.want {
			t.Errorf("%s: got %q, want %q", step.what, got, step.want)
		}
		if tab.present != step.present {
			t.Errorf("%s: got %d present, want %d", step.what, tab.present, step.present)
		}
	}
	if len(tab.records) != 0 || len(tab.owners) != 0 {
		t.Errorf("left over: %v, %v", tab.records, tab.owners)
	}
}
