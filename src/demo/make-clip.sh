#!/bin/sh
# Makes clip.flv, the sample that `weir --demo` publishes: a test picture with a running clock, and a
# tone with a beep every second. Needs ffmpeg 5 or later and the font DejaVu.
#
# 8 seconds are 200 pictures at 25/s and exactly 375 AAC frames of 1024 samples at 48 kHz, so the clip
# repeats without a gap in either track. The sound is cut from the middle of a longer one, where the
# encoder's priming is over; the picture has no B-frames and closed GOPs of one second.
set -eu
cd "$(dirname "$0")"
font=${FONT:-/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ffmpeg -v error -f lavfi -i "aevalsrc=0.05*sin(2*PI*440*t)+0.3*sin(2*PI*880*t)*lt(mod(t\,1)\,0.08):s=48000:d=24,aformat=channel_layouts=stereo" \
  -c:a aac -b:a 96k -use_editlist 0 "$work/long.m4a"
ffmpeg -v error -ss 8 -i "$work/long.m4a" -t 8 -c copy -use_editlist 0 "$work/tone.m4a"

text="drawtext=fontfile=$font:fontcolor=white:box=1:boxcolor=black@0.6:boxborderw=10"
ffmpeg -v error -f lavfi -i testsrc2=s=640x360:r=25:d=8 -i "$work/tone.m4a" -map 0:v -map 1:a \
  -vf "$text:fontsize=44:x=(w-tw)/2:y=h*0.42:text='%{pts\:hms}',$text:fontsize=22:x=(w-tw)/2:y=h*0.64:text='weir demo'" \
  -c:v libx264 -preset veryslow -profile:v high -pix_fmt yuv420p -crf 24 -maxrate 700k -bufsize 700k \
  -g 25 -keyint_min 25 -sc_threshold 0 -bf 0 -x264-params open-gop=0 -color_primaries bt709 -color_trc bt709 -colorspace bt709 \
  -c:a copy -fflags +bitexact -flags:v +bitexact -flvflags no_duration_filesize -y clip.flv
