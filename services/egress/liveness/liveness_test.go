package liveness

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// stage is a judge with a simulated clock, and watchers that report at every
// step.
type stage struct {
	judge *Judge
	now   time.Time
	sees  map[string]map[string]bool // by watcher, what it sees
}

const step = 100 * time.Millisecond

func newStage() *stage {
	return &stage{judge: NewJudge(DefaultRules()), now: time.Unix(1000, 0), sees: map[string]map[string]bool{}}
}

// pass lets time pass, with a report of each watcher at every step.
func (s *stage) pass(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.now = s.now.Add(step)
		for observer, answers := range s.sees {
			s.judge.Report(s.now, observer, answers)
		}
		s.judge.Decide(s.now)
	}
}

func (s *stage) see(target string, votes ...bool) {
	for i, ok := range votes {
		name := fmt.Sprintf("w%d", i)
		if s.sees[name] == nil {
			s.sees[name] = map[string]bool{}
		}
		s.sees[name][target] = ok
	}
}

// seeOthers lets everybody see two other nodes that are well.
func (s *stage) seeOthers() {
	for _, other := range []string{"m", "o"} {
		s.see(other, true, true, true)
	}
	s.pass(step)
}

func (s *stage) want(t *testing.T, health Health) {
	t.Helper()
	if got := s.judge.Verdict("n"); got.Health != health {
		t.Errorf("the node is %v, want %v", got.Health, health)
	}
}

func TestMostOfThoseWhoReportNowDecide(t *testing.T) {
	cases := []struct {
		name  string
		votes []bool
		want  Health
	}{
		{"nobody watches", nil, Up},
		{"one alone cannot decide", []bool{false}, Up},
		{"two agree", []bool{false, false}, Down},
		{"two disagree", []bool{false, true}, Up},
		{"two of three", []bool{false, false, true}, Down},
		{"one of three", []bool{false, true, true}, Up},
		{"half is not most", []bool{false, false, true, true}, Up},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newStage()
			s.see("n", true, true)
			s.pass(time.Second)
			s.want(t, Up)
			s.sees = map[string]map[string]bool{}
			s.judge.Leave("w0")
			s.judge.Leave("w1")
			s.see("n", c.votes...)
			s.pass(time.Second)
			s.want(t, c.want)
		})
	}
}

func TestALostObserverIsNoDeadNode(t *testing.T) {
	s := newStage()
	s.see("n", true, true, true)
	s.pass(time.Second)
	s.sees = map[string]map[string]bool{} // all watchers die at once
	s.pass(time.Minute)
	s.want(t, Up)
	s.see("n", false, true) // two come back, one of them cut off from the overlay
	s.pass(time.Minute)
	s.want(t, Up)
}

func TestASilentWatchersOldVoteDoesNotCount(t *testing.T) {
	s := newStage()
	s.see("n", true, true, true, true)
	s.pass(time.Second)
	delete(s.sees, "w2") // these two said that it answers, and then nothing more
	delete(s.sees, "w3")
	s.see("n", false, false)
	s.pass(500 * time.Millisecond)
	s.want(t, Up) // two against two
	s.pass(time.Second)
	s.want(t, Down)
}

func TestAReturningNodeIsNotTrustedAtOnce(t *testing.T) {
	rules := DefaultRules()
	s := newStage()
	s.seeOthers()
	s.see("n", true, true, true)
	s.pass(step)
	s.see("n", false, false, false)
	s.pass(step)
	s.want(t, Down)
	for failures := 1; failures <= 8; failures++ {
		hold := min(rules.HoldDown<<(failures-1), rules.MaxHoldDown)
		s.see("n", true, true, true)
		s.pass(step)
		s.want(t, Returning)
		s.pass(hold - 2*step)
		s.want(t, Returning)
		s.pass(2 * step)
		s.want(t, Up)
		if got := s.judge.Verdict("n").Failures; got != uint32(failures) {
			t.Fatalf("%d failures, want %d", got, failures)
		}
		s.see("n", false, false, false)
		s.pass(step)
		s.want(t, Down)
	}
	s.see("n", true, true, true)
	s.pass(rules.MaxHoldDown + time.Second)
	s.pass(rules.Forgive)
	s.see("n", false, false, false)
	s.pass(step)
	if got := s.judge.Verdict("n").Failures; got != 1 {
		t.Errorf("after a long good time it has %d failures", got)
	}
}

func TestAReturnThatIsInterruptedBeginsAgain(t *testing.T) {
	s := newStage()
	s.seeOthers()
	s.see("n", true, true)
	s.pass(step)
	s.see("n", false, false)
	s.pass(step)
	s.see("n", true, true)
	s.pass(9 * time.Second)
	s.see("n", true, false)
	s.pass(step)
	s.want(t, Down)
	s.see("n", true, true)
	s.pass(9 * time.Second)
	s.want(t, Returning)
	s.pass(2 * time.Second)
	s.want(t, Up)
}

// TestANodeThatJoinsNeedNotWait is about one that is watched before it can answer.
func TestANodeThatJoinsNeedNotWait(t *testing.T) {
	s := newStage()
	s.seeOthers()
	s.see("n", false, false)
	s.pass(time.Minute)
	s.want(t, Down)
	s.see("n", true, true)
	s.pass(step)
	s.want(t, Returning)
	s.see("n", false, false) // a first answer, and then the rest of its start
	s.pass(step)
	s.want(t, Down)
	s.see("n", true, true)
	s.pass(DefaultRules().FirstHold + 2*step)
	s.want(t, Up)
	s.see("n", false, false)
	s.pass(step)
	s.see("n", true, true)
	s.pass(DefaultRules().HoldDown - 2*step)
	s.want(t, Returning) // from now on it is one that fails
}

// TestWhenMostNodesFailNoneIsMadeToWait is about a machine, or a network, that is so slow
// that all nodes seem to die again and again.
func TestWhenMostNodesFailNoneIsMadeToWait(t *testing.T) {
	s := newStage()
	for range 6 {
		for _, ok := range []bool{true, false} {
			for _, node := range []string{"n", "m", "o"} {
				s.see(node, ok, ok)
			}
			s.pass(5 * time.Second)
		}
		s.want(t, Down)
	}
	for _, node := range []string{"n", "m", "o"} {
		s.see(node, true, true)
	}
	s.pass(DefaultRules().FirstHold + 2*step)
	if s.judge.Verdict("n").Usable() || s.judge.Verdict("m").Usable() || s.judge.Verdict("o").Usable() {
		return
	}
	t.Error("nobody is trusted, so nobody hosts anything")
}

func TestOneWatcherIsEnoughToReturn(t *testing.T) {
	s := newStage()
	s.see("n", false, false)
	s.pass(step)
	s.want(t, Down)
	s.judge.Leave("w1")
	delete(s.sees, "w1")
	s.see("n", true)
	s.pass(11 * time.Second)
	s.want(t, Up)
}

func TestAnHeirTrustsNoNodeThatWasDown(t *testing.T) {
	s := newStage()
	s.seeOthers()
	s.judge.Inherit(Verdict{Node: "n", Health: Down, Since: s.now.Add(-time.Hour), Failures: 2})
	s.want(t, Down)
	s.see("n", true, true)
	s.pass(19 * time.Second)
	s.want(t, Returning)
	s.pass(2 * time.Second)
	s.want(t, Up)
}

// TestRandomVotesDecideAsCounted compares with a count of what every watcher
// said last, kept apart.
func TestRandomVotesDecideAsCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStage()
		s.seeOthers()
		last := map[string]struct {
			at time.Time
			ok bool
		}{}
		goodSince, wasUp := time.Time{}, false
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			s.now = s.now.Add(time.Duration(rapid.IntRange(0, 700).Draw(t, "ms")) * time.Millisecond)
			for i := range 4 {
				name := fmt.Sprintf("w%d", i)
				switch rapid.IntRange(0, 5).Draw(t, name) {
				case 0, 1, 2:
					s.judge.Report(s.now, name, map[string]bool{"n": true})
					last[name] = struct {
						at time.Time
						ok bool
					}{s.now, true}
				case 3:
					s.judge.Report(s.now, name, map[string]bool{"n": false})
					last[name] = struct {
						at time.Time
						ok bool
					}{s.now, false}
				case 4:
					s.judge.Leave(name)
					delete(last, name)
				}
			}
			before := s.judge.Verdict("n")
			s.judge.Decide(s.now)
			after := s.judge.Verdict("n")
			up, down := 0, 0
			for _, v := range last {
				if s.now.Sub(v.at) > DefaultRules().Fresh {
					continue
				}
				if v.ok {
					up++
				} else {
					down++
				}
			}
			if up <= down {
				goodSince = time.Time{}
			} else if goodSince.IsZero() {
				goodSince = s.now
			}
			if before.Usable() && !after.Usable() && (up+down < 2 || down <= up) {
				t.Fatalf("it went down with %d against %d", down, up)
			}
			if before.Usable() && after.Usable() && up+down >= 2 && down > up {
				// The decision is made when votes change, or silence is noticed at the
				// next report: a report of this moment must have been heard.
				for _, v := range last {
					if v.at.Equal(s.now) {
						t.Fatalf("it stays up with %d against %d", down, up)
					}
				}
			}
			hold := DefaultRules().FirstHold
			if wasUp = wasUp || before.Health == Up; wasUp {
				hold = DefaultRules().HoldDown
			}
			if !before.Usable() && after.Usable() && (goodSince.IsZero() || s.now.Sub(goodSince) < hold) {
				t.Fatalf("it is up again, good since %v, now %v", goodSince, s.now)
			}
		}
	})
}

func TestEveryNodeIsWatchedByEnoughOthers(t *testing.T) {
	var nodes []string
	for i := range 60 {
		nodes = append(nodes, fmt.Sprintf("node%d", i))
	}
	plan := Watchers(nodes, nodes)
	count := map[string]int{}
	for observer, targets := range plan {
		if len(targets) > 4*WatchersPerNode {
			t.Errorf("%s watches %d", observer, len(targets))
		}
		if slices.Contains(targets, observer) {
			t.Errorf("%s watches itself", observer)
		}
		for _, target := range targets {
			count[target]++
		}
	}
	for _, node := range nodes {
		if count[node] != WatchersPerNode {
			t.Errorf("%s has %d watchers", node, count[node])
		}
	}
	without := Watchers(nodes, nodes[1:])
	changed := 0
	for _, observer := range nodes[1:] {
		if !slices.Equal(plan[observer], without[observer]) {
			changed++
		}
	}
	if changed > 4*WatchersPerNode {
		t.Errorf("one observer less changed what %d others watch", changed)
	}
	if got := Watchers([]string{"a"}, []string{"a", "b"}); !maps.EqualFunc(got, map[string][]string{"b": {"a"}}, slices.Equal) {
		t.Errorf("of two nodes: %v", got)
	}
}
