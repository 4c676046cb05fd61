package traces

import (
	"context"
	"fmt"
	"strings"
)

// Tracer runs ovs-appctl with these arguments on the node in question and returns
// what it printed.
type Tracer func(ctx context.Context, args ...string) (string, error)

// Ask puts the question to the node and returns every difference between the answer
// that came and the one that must come; none when the walk holds.
func (q Question) Ask(ctx context.Context, trace Tracer) ([]string, error) {
	text, err := trace(ctx, q.Args...)
	if err != nil {
		return nil, fmt.Errorf("trace %s: %w", strings.Join(q.Args[1:], " "), err)
	}
	answer, err := ParseAnswer(text, Bridge)
	if err != nil {
		return nil, fmt.Errorf("trace %s: %w", strings.Join(q.Args[1:], " "), err)
	}
	return q.differences(answer), nil
}

func (q Question) differences(answer Answer) []string {
	var all []string
	for i, allowed := range q.Steps {
		if i >= len(answer.Steps) {
			all = append(all, fmt.Sprintf("step %d: want %s, the walk is over", i+1, allowed[0]))
			continue
		}
		if why := bestDifference(allowed, answer.Steps[i]); why != "" {
			all = append(all, fmt.Sprintf("step %d: %s", i+1, why))
		}
	}
	if !q.Whole {
		return all
	}
	for i := len(q.Steps); i < len(answer.Steps); i++ {
		all = append(all, fmt.Sprintf("step %d: want no further step, got %s", i+1, answer.Steps[i]))
	}
	if answer.End != q.End {
		all = append(all, fmt.Sprintf("end: want %s, got %s", q.End, answer.End))
	}
	return all
}

// bestDifference is empty when the step is one of those allowed.
func bestDifference(allowed []Step, got Step) string {
	for _, want := range allowed {
		if want.Table == got.Table && want.Priority == got.Priority &&
			sameMatch(want.Match, got.Match) && sameActions(want.Actions, got.Actions) {
			return ""
		}
	}
	return fmt.Sprintf("want %s, got %s", allowed[0], got)
}
