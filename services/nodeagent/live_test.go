package nodeagent

import (
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/configfile"
)

// TestEveryFieldThatIsLiveComesIntoForce compares what the file calls live with what is done.
// The log level is the daemon's own.
func TestEveryFieldThatIsLiveComesIntoForce(t *testing.T) {
	called := slices.DeleteFunc(configfile.Live(reflect.TypeFor[Config]()), func(field string) bool { return field == "log.level" })
	slices.Sort(called)
	if done := slices.Sorted(maps.Keys(changes)); !slices.Equal(called, done) {
		t.Errorf("called live are %q, and what comes into force is %q", called, done)
	}
}

func TestOfSeveralIntervalsTheLastCounts(t *testing.T) {
	p := &plumbing{audits: make(chan time.Duration, 1)}
	for _, interval := range []time.Duration{time.Minute, time.Hour, time.Second} {
		p.AuditEvery(interval)
	}
	if got := <-p.audits; got != time.Second {
		t.Errorf("it is %v", got)
	}
}
