package labels

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

func TestSomeLabelsChangeAndTheOthersStay(t *testing.T) {
	before := map[string]string{"app": "web", "tier": "front", "old": ""}
	after, err := Change{Set: map[string]string{"tier": "back", "new": "x"}, Remove: []string{"old", "never"}}.Apply(before)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"app": "web", "tier": "back", "new": "x"}; !maps.Equal(after, want) {
		t.Errorf("got %v, want %v", after, want)
	}
	if len(before) != 3 || before["tier"] != "front" {
		t.Errorf("what was before became %v", before)
	}
	if after, err := (Change{}).Apply(nil); err != nil || len(after) != 0 {
		t.Errorf("no change of no labels: %v, %v", after, err)
	}
}

func TestLabelsThatGrowTooLargeAreRefused(t *testing.T) {
	before := map[string]string{"a": strings.Repeat("x", MaxBytes-1)}
	var tooLarge *TooLargeError
	if _, err := (Change{Set: map[string]string{"b": ""}}).Apply(before); !errors.As(err, &tooLarge) || tooLarge.Bytes != MaxBytes+1 {
		t.Errorf("got %v, want %d bytes to be too many", err, MaxBytes+1)
	}
	if _, err := (Change{Set: map[string]string{"b": ""}, Remove: []string{"a"}}).Apply(before); err != nil {
		t.Errorf("with the large one gone: %v", err)
	}
}
