package chart

import (
	"strings"
	"testing"
)

func TestVersions(t *testing.T) {
	for described, want := range map[string]string{
		"v1.2.3": "1.2.3", "1.2.3": "1.2.3", "v1.2.3-4-gabcdef0-dirty": "1.2.3-4-gabcdef0-dirty",
		"0123456": "0.0.0-g0123456", "0123456-dirty": "0.0.0-g0123456-dirty",
		"": "", "a version": "", "v1": "0.0.0-gv1", "../x": "",
	} {
		if got, err := semantic(described); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v, want %q", described, got, err, want)
		}
	}
}

// TestARelease is in the chart: an install without a word of images takes the release's.
func TestARelease(t *testing.T) {
	files, err := Release{Version: "v1.2.3", Registry: "registry.example.com:5000/damask", Tag: "v1.2.3"}.stamped()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Chart.yaml": "version: 1.2.3\nappVersion: \"v1.2.3\"\n", "values.yaml": "  registry: registry.example.com:5000/damask\n",
	} {
		if !strings.Contains(string(files[name]), want) {
			t.Errorf("%s has no %q:\n%s", name, want, files[name])
		}
	}
}

func TestAReleaseThatIsNoneIsRefusedWithAllThatIsWrong(t *testing.T) {
	_, err := Make("..", Release{Version: "../x", Registry: "a: b", Tag: "-"})
	for _, want := range []string{`"../x" is no version`, `"a: b" is no registry`, `"-" is no tag`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing is said of %q: %v", want, err)
		}
	}
}
