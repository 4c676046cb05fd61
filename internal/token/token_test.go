package token_test

import (
	"testing"

	"github.com/damask-sdn/damask/internal/token"
)

func TestEncodeEscapesWhatASubjectCannotCarry(t *testing.T) {
	for name, want := range map[string]string{
		"":              "",
		"shop":          "shop",
		"kube-system":   "kube-system",
		"infra.ocp.cn":  "infra_2Eocp_2Ecn",
		"10.128.0.0/23": "10_2E128_2E0_2E0_2F23",
		"a_b":           "a_5Fb",
		"*":             "_2A",
		"é":             "_C3_A9",
	} {
		if got := token.Encode(name); got != want {
			t.Errorf("Encode(%q): got %q, want %q", name, got, want)
		}
		back, err := token.Decode(want)
		if err != nil || back != name {
			t.Errorf("Decode(%q): got %q, %v, want %q", want, back, err, name)
		}
	}
}

func TestDecodeRefusesWhatEncodeNeverWrites(t *testing.T) {
	for _, tok := range []string{"a.b", "a b", "_", "_2", "a_2", "_2e", "_GG", "_41", "_2D", "é", ">"} {
		if got, err := token.Decode(tok); err == nil {
			t.Errorf("Decode(%q): got %q, want an error", tok, got)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, seed := range []string{"", "shop", "infra.ocp.cn", "_2E", "\x00\xff", "a_b", "*.>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tok := token.Encode(s)
		back, err := token.Decode(tok)
		if err != nil || back != s {
			t.Fatalf("Decode(Encode(%q)): got %q, %v", s, back, err)
		}
		// Read the same bytes as a token: what decodes must encode to itself.
		if name, err := token.Decode(s); err == nil && token.Encode(name) != s {
			t.Fatalf("Decode(%q) = %q, which encodes to %q", s, name, token.Encode(name))
		}
	})
}
